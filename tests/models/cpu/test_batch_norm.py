"""One-sided padding without a padded copy: the same as timm's own convolution."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import Conv2dSame
from torch import nn

from weakseg.models.cpu.batch_norm import NormedConv2d


def normed(convolution, *, clamped=False):
    norm = nn.BatchNorm2d(convolution.out_channels).eval()
    with torch.no_grad():
        for tensor in (norm.weight, norm.running_var):
            tensor.uniform_(0.5, 2)
        for tensor in (norm.bias, norm.running_mean):
            tensor.uniform_(-1, 1)
    return NormedConv2d(convolution, norm, clamped=clamped)


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(3, 20),
    width=st.integers(3, 20),
    kernel=st.tuples(st.sampled_from([1, 2, 3, 5]), st.sampled_from([3, 4, 7])),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    depthwise=st.booleans(),
    clamped=st.booleans(),
)
def test_one_sided_padding_gives_the_same(
    height, width, kernel, stride, dilation, depthwise, clamped
):
    torch.manual_seed(0)
    convolution = Conv2dSame(
        6, 6, kernel, stride, dilation=dilation, groups=6 if depthwise else 1, bias=False
    )
    layer = normed(convolution, clamped=clamped)
    x = torch.randn(2, 6, height, width).to(memory_format=torch.channels_last)
    learnt = layer(x)  # with gradient: timm's own forward
    with torch.no_grad():
        torch.testing.assert_close(layer(x), learnt.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("clamped", [False, True])
def test_bf16_keeps_its_kind(clamped):
    layer = normed(nn.Conv2d(4, 4, 3, padding=1, bias=False), clamped=clamped)
    x = torch.randn(1, 4, 8, 8)
    with torch.no_grad():
        expected = layer(x)
        with torch.autocast("cpu", torch.bfloat16):
            found = layer(x)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=0.05, atol=0.1)
