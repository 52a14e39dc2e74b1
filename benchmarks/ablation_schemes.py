"""Ways to teach a second branch, one class each: the arms of `ablation.py`.

Each starts from the same trained spotlight (a plain CAM network) and gives maps of its own. They are
built of weakseg's parts, as a reader's own scheme would be; what won is in the package.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from weakseg.models.amr import AMR
from weakseg.ops.losses import cross_pseudo_supervision, refined_labels, tag_loss
from weakseg.ops.propagation import feature_affinity, min_max_normalized
from weakseg.training.recalibrate_task import RecalibrateSettings, RecalibrateTask
from weakseg.types import IGNORE


class Scheme(nn.Module):
    """An arm: what a batch costs, and which maps come out.

    Attributes:
        probabilities: Whether maps are probabilities, parted at one half.
        target: Which labels it learns from: `refined` (the spread spotlight maps), or `agreed` (only
            what the raw maps say, too).
        two_branches: Whether weighted maps are of interest.
    """

    probabilities, two_branches = True, True

    def __init__(self, model: AMR, options: dict) -> None:
        super().__init__()
        self.model, self.options = model, options
        self.progress, self.steps = 0.0, 1

    def after_step(self):
        self.progress += 1 / self.steps

    def losses(self, images, labels, tags):
        raise NotImplementedError

    def maps(self, pixels, tags):
        """Maps [B,K,h,w], not negative, of standardized images with the tags [B,K]."""
        return self.model.compensation(self.model.encode_standardized(pixels)).cams

    def forward(self, batch):
        images, labels, tags = batch
        terms = self.losses(self.model.standardized(images), labels, tags)
        return {"loss": sum(terms.values()), **{k: v.detach() for k, v in terms.items()}}

    def learning(self):
        """Modules that learn, with the multiple of the learning rate."""
        branch = self.model.compensation
        parts = [(branch.stages, 1.0), (branch.head, 10.0), (branch.modulation, 10.0)]
        return [*parts, *((part, 10.0) for part in self.extra())]

    def extra(self):
        return []

    def parameter_groups(self):
        learning = self.learning()
        known = {id(p) for part, _ in learning for p in part.parameters()}
        for parameter in self.parameters():
            if id(parameter) not in known:
                parameter.requires_grad_(False)
        groups = [([p for p in part.parameters() if p.requires_grad], s) for part, s in learning]
        return [{"params": group, "lr_scale": scale} for group, scale in groups if group]

    def on_grid(self, labels, size):
        wide = functional.interpolate(labels[:, None].float(), size=size, mode="nearest-exact")
        return wide[:, 0].to(labels.dtype)


def kinds_loss(scores, labels, tags, weights):
    """Binary cross entropy over four kinds of positions, each averaged by itself.

    Of the class; known to be of another or background; any, where the tag is absent; any, where no tag
    is given at all.
    """
    kinds = torch.arange(1, scores.shape[1] + 1, device=labels.device)[:, None, None]
    shown = (tags > 0)[:, :, None, None]
    tagged = (tags.sum(dim=1) > 0)[:, None, None, None]
    own = (labels[:, None] == kinds) & shown
    other = (labels != IGNORE)[:, None] & ~own & shown
    absent, untagged = (~shown & tagged).expand_as(own), (~shown & ~tagged).expand_as(own)
    loss = functional.binary_cross_entropy_with_logits(scores, own.float(), reduction="none")
    parts = [own, other, absent, untagged]
    terms = [
        w * (loss * p).sum() / p.sum().clamp_min(1) for p, w in zip(parts, weights, strict=True)
    ]
    return torch.stack(terms).sum() / 3


class Longer(Scheme):
    """The control: the plain CAM network learns on from tags."""

    probabilities, two_branches = False, False

    def losses(self, images, labels, tags):
        return {
            "tags": tag_loss(
                self.model.spotlight(self.model.encode_standardized(images)).logits, tags
            )
        }

    def maps(self, pixels, tags):
        return self.model.spotlight(self.model.encode_standardized(pixels)).cams

    def learning(self):
        branch = self.model.spotlight
        return [(self.model.shared, 1.0), (branch.stages, 1.0), (branch.head, 10.0)]


class Published(Scheme):
    """AMR as published: the branches pulled together by the distance of their raw maps."""

    probabilities = False

    def __init__(self, model, options):
        super().__init__(model, options)
        # In a tuple, so that the network is not registered twice.
        self.task = (RecalibrateTask(model, RecalibrateSettings(cps_maps="raw")),)

    def forward(self, batch):
        return self.task[0](batch)

    def parameter_groups(self):
        return self.task[0].parameter_groups()


class Refined(Scheme):
    """The compensation branch learns what the spotlight's refined maps are sure of."""

    def losses(self, images, labels, tags):
        found = self.model.compensation(self.model.encode_standardized(images))
        labels = self.on_grid(labels, found.scores.shape[-2:])
        weights = self.options.get("kinds", (1.0, 1.0, 1.0, 1.0))
        return {
            "tags": self.options.get("tags", 1.0) * tag_loss(found.logits, tags),
            "refined": self.options.get("weight", 1.0)
            * kinds_loss(found.scores, labels, tags, weights),
        }


class OneBranch(Refined):
    """The control: a single network goes on learning from its own refined maps."""

    two_branches = False


class Labels(Scheme):
    """The compensation branch predicts K + 1 labels a position, from features scaled by the tags."""

    def __init__(self, model, options):
        super().__init__(model, options)
        width = model.widths[-1]
        self.scale = nn.Linear(model.classes, width)
        nn.init.zeros_(self.scale.weight)
        nn.init.ones_(self.scale.bias)
        self.predict = nn.Conv2d(width, model.classes + 1, 1)
        nn.init.normal_(self.predict.weight, std=0.01)

    def extra(self):
        return [self.scale, self.predict, self.model.spotlight.head]

    def _scores(self, pixels, tags):
        features = self.model.compensation.features(self.model.encode_standardized(pixels))
        return self.predict(features * self.scale(tags)[:, :, None, None]).float()

    def losses(self, images, labels, tags):
        scores = self._scores(images, tags)
        labels = self.on_grid(labels, scores.shape[-2:])
        known = labels != IGNORE
        each = functional.cross_entropy(
            scores, labels.long().masked_fill(~known, 0), reduction="none", label_smoothing=0.4
        )
        kinds = (labels == 0, known & (labels > 0))
        parts = [(each * kind).sum() / kind.sum().clamp_min(1) for kind in kinds]
        own = self.model.spotlight(self.model.encode_standardized(images))
        there = scores.softmax(dim=1)[:, 1:].detach() * tags[:, :, None, None]
        back = cross_pseudo_supervision(own.cams, there, tags)
        return {"labels": sum(parts) / 2, "back": 0.05 * (back + tag_loss(own.logits, tags))}

    def maps(self, pixels, tags):
        return self._scores(pixels, tags).softmax(dim=1)[:, 1:]


class Crossed(Scheme):
    """Both branches learn the other's refined maps with auxiliary heads, kept apart by their cosine."""

    def __init__(self, model, options):
        super().__init__(model, options)
        width = model.widths[-1]
        self.heads = nn.ModuleList(nn.Conv2d(width, model.classes, 1) for _ in range(2))
        for head, branch in zip(self.heads, (model.spotlight, model.compensation), strict=True):
            head.weight.data.copy_(branch.head.weight)
            nn.init.zeros_(head.bias)

    def learning(self):
        own = self.model.spotlight
        return [*super().learning(), (own.stages, 1.0), (own.head, 10.0), (self.heads, 10.0)]

    def losses(self, images, labels, tags):
        model = self.model
        shared = model.encode_standardized(images)
        features = [branch.features(shared) for branch in (model.spotlight, model.compensation)]
        outputs = [
            branch.classify(x)
            for branch, x in zip((model.spotlight, model.compensation), features, strict=True)
        ]
        with torch.no_grad():
            details = model.details(images * model.std + model.mean)
            found = [self._labels(out.scores.relu(), details, tags) for out in outputs]
            for target in found:
                target[found[0] != found[1]] = IGNORE
        refined = [
            kinds_loss(head(x).float(), target, tags, (1.0, 1.0, 1.0, 1.0))
            for head, x, target in zip(self.heads, features, reversed(found), strict=True)
        ]
        apart = functional.cosine_similarity(
            features[0].flatten(1), features[1].flatten(1).detach()
        )
        weight = 0.2 if self.progress > 0.1 else 0.0
        return {
            "tags": sum(tag_loss(out.logits, tags) for out in outputs) / 2,
            "refined": 5 * weight * sum(refined) / 2,
            "apart": 0.1 * (1 + apart).mean(),
        }

    def _labels(self, cams, details, tags):
        labels = []
        for maps, features, own in zip(cams, details, tags > 0, strict=True):
            classes = own.nonzero()[:, 0]
            wide = maps[classes] / maps[classes].amax(dim=(1, 2), keepdim=True).clamp_min(1e-5)
            if len(classes):
                flat = wide.flatten(1) @ feature_affinity(features).T
                wide = min_max_normalized(flat.view_as(wide))
            labels.append(refined_labels(wide, classes, sure=0.67, unsure=0.33))
        return torch.stack(labels)

    def maps(self, pixels, tags):
        shared = self.model.encode_standardized(pixels)
        branches = (self.model.spotlight, self.model.compensation)
        found = [
            head(branch.features(shared)).sigmoid()
            for head, branch in zip(self.heads, branches, strict=True)
        ]
        return sum(found) / 2


class Prototype(Scheme):
    """The compensation map is the likeness to the image's own prototypes, agreeing with the CAM."""

    probabilities = False

    def learning(self):
        branch = self.model.spotlight
        return [(branch.stages, 1.0), (branch.head, 10.0)]

    def _maps(self, images, tags):
        model = self.model
        features = model.spotlight.features(model.encode_standardized(images))
        output = model.spotlight.classify(features)
        cams = output.cams * tags[:, :, None, None]
        cams = cams / cams.amax(dim=(2, 3), keepdim=True).clamp_min(1e-5)
        with torch.no_grad():
            ground = 1 - cams.amax(dim=1, keepdim=True)
            parts = torch.cat([ground, cams], dim=1)
            seeds = functional.one_hot(parts.argmax(dim=1), parts.shape[1]).permute(0, 3, 1, 2)
            seeds = seeds.float().flatten(2)
        unit = functional.normalize(features.float(), dim=1)
        centres = torch.einsum("bkn,bcn->bkc", seeds, unit.flatten(2))
        centres = functional.normalize(centres, dim=2)
        likeness = torch.einsum("bkc,bchw->bkhw", centres, unit).relu()
        return output, cams, likeness[:, 1:] * tags[:, :, None, None]

    def losses(self, images, labels, tags):
        output, cams, likeness = self._maps(images, tags)
        apart = (cams - likeness).abs().mean(dim=(2, 3))
        return {
            "tags": tag_loss(output.logits, tags),
            "likeness": (apart * tags).sum() / tags.sum().clamp_min(1),
        }

    def maps(self, pixels, tags):
        return self._maps(pixels, tags)[2]


class Scale(Scheme):
    """The compensation branch sees half the size; maps agree across sizes after learnt spreading."""

    probabilities = False

    def __init__(self, model, options):
        super().__init__(model, options)
        self.project = nn.Conv2d(model.widths[-1], 64, 1, bias=False)

    def extra(self):
        return [self.project, self.model.spotlight.head, self.model.spotlight.stages]

    def _maps(self, branch, images):
        features = branch.features(self.model.encode_standardized(images))
        output = branch.classify(features)
        cams = output.scores.relu()
        # Not by less than 1: what next to no map says would be pushed with a huge gradient.
        cams = cams / cams.detach().amax(dim=(2, 3), keepdim=True).clamp_min(1)
        keys = functional.normalize(self.project(features.detach()).float().flatten(2), dim=1)
        weights = torch.einsum("bcn,bcm->bnm", keys, keys).relu()
        weights = weights / weights.sum(dim=2, keepdim=True).clamp_min(1e-5)
        wide = torch.einsum("bnm,bkm->bkn", weights, cams.detach().flatten(2)).view_as(cams)
        return output, cams, wide

    def losses(self, images, labels, tags):
        half = functional.interpolate(images, scale_factor=0.5, mode="bilinear", antialias=True)
        first, cams, wide = self._maps(self.model.spotlight, images)
        second, small, small_wide = self._maps(self.model.compensation, half)
        size = cams.shape[-2:]
        small, small_wide = (
            functional.interpolate(x, size=size, mode="bilinear") for x in (small, small_wide)
        )
        shown = tags[:, :, None, None]
        same = ((cams - small).abs() * shown).mean()
        crossed = [
            ((a - b).abs() * shown).flatten(1) for a, b in ((cams, small_wide), (small, wide))
        ]
        hardest = [x.topk(max(1, x.shape[1] // 5), dim=1).values.mean() for x in crossed]
        return {
            "tags": (tag_loss(first.logits, tags) + tag_loss(second.logits, tags)) / 2,
            "same": same,
            "crossed": sum(hardest),
        }

    def maps(self, pixels, tags):
        _, _, wide = self._maps(self.model.spotlight, pixels)
        return wide


class Erasing(Scheme):
    """The compensation branch's map, erased from the image, must leave the spotlight nothing."""

    probabilities = False

    def losses(self, images, labels, tags):
        model = self.model
        found = model.compensation(model.encode_standardized(images))
        cams = found.scores.relu()
        # Not by less than 1: what next to no map says would be pushed with a huge gradient.
        cams = cams / cams.detach().amax(dim=(2, 3), keepdim=True).clamp_min(1)
        noise = torch.rand_like(tags) * tags
        index = noise.argmax(dim=1)
        rows = torch.arange(len(tags), device=tags.device)
        own = cams[rows, index]
        erased = functional.interpolate(own[:, None], size=images.shape[-2:], mode="bilinear")
        soft = torch.sigmoid(10 * (erased - 0.2))
        left = model.spotlight(model.shared(model.frozen(images * (1 - soft)))).logits
        residual = functional.softplus(left[rows, index]) * (tags.sum(dim=1) > 0)
        return {
            "tags": tag_loss(found.logits, tags),
            "left": (0.3 + 0.7 * self.progress) * residual.mean(),
        }

    def maps(self, pixels, tags):
        return self.model.compensation(self.model.encode_standardized(pixels)).scores.relu()


class Groups(Scheme):
    """The compensation branch learns groups of classes; a class's map is the mean of its groups'."""

    probabilities = False

    def __init__(self, model, options):
        super().__init__(model, options)
        generator = torch.Generator().manual_seed(0)
        classes = model.classes
        members = torch.rand(3 * classes, classes, generator=generator) < 0.5
        if options.get("any"):
            members = torch.ones(1, classes, dtype=torch.bool)
        members = members[members.any(dim=1)].float()
        self.register_buffer("members", members)
        self.head = nn.Conv2d(model.widths[-1], len(members), 1, bias=False)
        weight = model.spotlight.head.weight.detach().flatten(1)
        mean = members @ weight / members.sum(dim=1, keepdim=True)
        self.head.weight.data.copy_(mean[:, :, None, None])

    def extra(self):
        return [self.head]

    def _scores(self, pixels):
        return self.head(self.model.compensation.features(self.model.encode_standardized(pixels)))

    def losses(self, images, labels, tags):
        own = ((tags @ self.members.T) > 0).float()
        return {"groups": tag_loss(self._scores(images).mean(dim=(2, 3)), own)}

    def maps(self, pixels, tags):
        cams = self._scores(pixels).float().relu()
        share = self.members / self.members.sum(dim=0).clamp_min(1)
        return torch.einsum("bghw,gk->bkhw", cams, share)


SCHEMES = {
    scheme.__name__: scheme
    for scheme in (
        Longer,
        Published,
        Refined,
        OneBranch,
        Labels,
        Crossed,
        Prototype,
        Scale,
        Erasing,
        Groups,
    )
}
