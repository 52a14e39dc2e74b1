import pytest
import torch

from weakseg.ops.prototypes import (
    Prototypes,
    PrototypeSettings,
    gathered,
    kmeans,
    prototype_map,
    select_prototypes,
)


def groups(seed=0, spread=0.05):
    generator = torch.Generator().manual_seed(seed)
    middles = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
    return middles, torch.cat(
        [m + spread * torch.randn(50, 2, generator=generator) for m in middles]
    )


def test_kmeans_finds_groups_in_any_order_of_the_vectors():
    middles, vectors = groups()
    for seed in range(5):
        order = torch.randperm(len(vectors), generator=torch.Generator().manual_seed(seed))
        centres = kmeans(vectors[order], 3, seed=seed)
        distance = torch.cdist(centres, middles)
        assert sorted(distance.argmin(dim=1).tolist()) == [0, 1, 2]
        assert float(distance.amin(dim=1).max()) < 0.05


def test_kmeans_gives_the_same_for_the_same_and_each_centre_is_its_groups_mean():
    vectors = torch.randn(200, 5, generator=torch.Generator().manual_seed(3)) + 100
    centres = kmeans(vectors, 4, seed=1)
    assert torch.equal(centres, kmeans(vectors, 4, seed=1))
    nearest = torch.cdist(vectors.double(), centres.double()).argmin(dim=1)
    for k in range(4):
        torch.testing.assert_close(centres[k], vectors[nearest == k].mean(dim=0))


def test_kmeans_of_fewer_distinct_vectors_than_clusters():
    vectors = torch.tensor([[1.0, 2.0]] * 7 + [[3.0, 4.0]] * 2)
    centres = kmeans(vectors, 12)
    assert sorted(centres.tolist()) == [[1.0, 2.0], [3.0, 4.0]]
    with pytest.raises(ValueError, match="N ≥ 1"):
        kmeans(torch.zeros(0, 3), 2)


def test_features_are_gathered_where_the_map_is_high_up_to_the_quota():
    features = torch.arange(16.0).view(1, 4, 4)
    map_ = torch.zeros(8, 8)
    map_[:4] = 1
    assert gathered(features, map_, 0.1, 100).flatten().tolist() == list(range(8))
    assert gathered(features, map_, 0.1, 3).flatten().tolist() == [0, 3, 7]
    assert gathered(features, torch.zeros(8, 8), 0.1, 3).shape == (0, 1)


def test_centres_are_sorted_by_what_the_classifier_says():
    centres = torch.tensor([[5.0, 0.0], [0.0, 3.0], [0.2, 0.0]])
    classifier = torch.tensor([[1.0, -1.0], [0.0, 1.0]])
    found = select_prototypes(centres, classifier, 0, PrototypeSettings())
    torch.testing.assert_close(found.own, torch.tensor([[1.0, 0.0]]))
    torch.testing.assert_close(found.context, torch.tensor([[0.0, 1.0]]))
    # Of the class that no centre is surely of, the likeliest stands in and is no context.
    none = select_prototypes(centres[[0, 2]], -classifier, 0, PrototypeSettings())
    torch.testing.assert_close(none.own, torch.tensor([[1.0, 0.0]]))
    assert len(none.context) == 1


def test_a_prototype_map_is_the_difference_of_mean_cosines():
    features = torch.tensor([[[1.0, 0.0, 2.0]], [[0.0, 1.0, 2.0]]])
    own, context = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    alone = prototype_map(features, Prototypes(own, context[:0]))
    torch.testing.assert_close(alone, torch.tensor([[1.0, 0.0, 0.5**0.5]]))
    both = prototype_map(features, Prototypes(own, context))
    torch.testing.assert_close(both, torch.tensor([[1.0, 0.0, 0.0]]))
