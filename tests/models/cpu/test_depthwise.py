"""Depthwise convolutions against torch's own."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from weakseg.models.cpu import depthwise
from weakseg.models.cpu.depthwise import depthwise_conv2d


@settings(max_examples=60, deadline=None)
@given(
    rows=st.sampled_from([1, 3, 5, 7]),
    columns=st.sampled_from([1, 3, 4, 5, 7]),
    dilation=st.sampled_from([1, 2, 3, 5, 9]),
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    less=st.integers(0, 2),
    seed=st.integers(0, 99),
)
def test_output_and_gradients_are_torchs(rows, columns, dilation, height, width, less, seed):
    padding = (dilation * (rows // 2), max(0, dilation * (columns // 2 - less)))
    if width + 2 * padding[1] < dilation * (columns - 1) + 1:
        return
    torch.manual_seed(seed)
    inputs = [
        torch.randn(2, 3, height, width, dtype=torch.float64),
        torch.randn(3, 1, rows, columns, dtype=torch.float64),
        torch.randn(3, dtype=torch.float64),
    ]
    own = [x.clone().requires_grad_() for x in inputs]
    other = [x.clone().requires_grad_() for x in inputs]
    y = depthwise_conv2d(*own, padding, dilation)
    truth = functional.conv2d(*other, 1, padding, dilation, 3)
    torch.testing.assert_close(y, truth)
    seen = torch.randn_like(y)
    y.backward(seen)
    truth.backward(seen)
    for a, b in zip(own, other, strict=True):
        torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize(("kernel", "dilation"), [(5, 1), (3, 2), (5, 2), (3, 6)])
def test_slow_gradients_of_torch_are_not_used(kernel, dilation, monkeypatch):
    calls = []
    gradient = depthwise._weight_gradient
    monkeypatch.setattr(
        depthwise, "_weight_gradient", lambda *args: calls.append(1) or gradient(*args)
    )
    x = torch.randn(1, 4, 9, 9, requires_grad=True)
    weight = torch.randn(4, 1, kernel, kernel, requires_grad=True)
    around = dilation * (kernel // 2)
    depthwise_conv2d(x, weight, None, (around, around), dilation).sum().backward()
    assert calls


def test_only_the_gradients_asked_for():
    x = torch.randn(1, 4, 9, 9)
    weight = torch.randn(4, 1, 5, 5, requires_grad=True)
    depthwise_conv2d(x, weight, None, (2, 2), 1).sum().backward()
    assert weight.grad is not None
    assert x.grad is None


def test_gradients_in_bf16_are_near_those_in_float32():
    torch.manual_seed(0)
    inputs = [torch.randn(2, 4, 9, 11), torch.randn(4, 1, 5, 5), torch.randn(4)]
    gradients = []
    for enabled in (False, True):
        own = [x.clone().requires_grad_() for x in inputs]
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            y = depthwise_conv2d(*own, (4, 4), 2)
        assert y.dtype == (torch.bfloat16 if enabled else torch.float32)
        y.float().square().sum().backward()
        gradients.append([x.grad for x in own])
    for a, b in zip(*gradients, strict=True):
        assert a.dtype == torch.float32
        assert float((a - b).norm() / a.norm()) < 0.02
