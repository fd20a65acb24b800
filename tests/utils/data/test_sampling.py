import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from utils.data.dataset import Sample
from utils.data.sampling import EpochBatches, TrainingView, hold_out
from utils.data.transforms import Jitter, Joint, TargetCrop, orientations
from utils.options import InputError


class Numbers:
    """Stands for a data set: image i is random, but always the same."""

    def __getitem__(self, i):
        image = torch.rand(1, 40, 30, generator=torch.Generator().manual_seed(i))
        return Sample(image, (image > 0.9).float(), str(i))


VIEW = TrainingView(
    Numbers(), [4, 7, 9], Joint(TargetCrop(16, 0.5), *orientations(), Jitter(0.3)), seed=1
)


def test_a_draw_depends_on_seed_epoch_and_index_alone():
    first = VIEW[5, 1]
    torch.rand(100)
    VIEW[5, 2]
    assert torch.equal(VIEW[5, 1].image, first.image)
    assert first.name == "7"
    assert not torch.equal(VIEW[6, 1].image, first.image)
    other = TrainingView(Numbers(), [4, 7, 9], VIEW.transform, seed=2)
    assert not torch.equal(other[5, 1].image, first.image)
    twice = TrainingView(Numbers(), [4, 4], VIEW.transform, seed=1)
    assert not torch.equal(twice[5, 0].image, twice[5, 1].image)


def test_a_draw_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    VIEW[0, 0]
    assert torch.equal(torch.rand(1), expected)


def test_others_are_drawn_anew_each_epoch_and_its_own_are_as_without_them():
    own, others = [4, 7, 9], range(20, 26)
    view = TrainingView(Numbers(), own, VIEW.transform, 1, others)
    assert (len(VIEW), len(view)) == (3, 6)
    for index in range(3):
        assert view.shown((2, index)) == own[index]
        assert torch.equal(view[2, index].image, VIEW[2, index].image)
    epochs = [[view.shown((epoch, index)) for index in (3, 4, 5)] for epoch in range(30)]
    assert {i for epoch in epochs for i in epoch} == set(others)
    assert len(set(map(tuple, epochs))) > 20
    assert view[5, 4].name == str(epochs[5][1])
    assert torch.equal(view[5, 4].image, view[5, 4].image)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a single core
def test_workers_change_nothing():
    def epoch(workers):
        batches = EpochBatches(len(VIEW), 2, seed=1)
        batches.epoch = 3
        options = {"multiprocessing_context": "spawn"} if workers else {}
        loader = DataLoader(VIEW, batch_sampler=batches, num_workers=workers, **options)
        return list(loader)

    for (a, b, names), (c, d, others) in zip(epoch(0), epoch(2), strict=True):
        assert torch.equal(a, c) and torch.equal(b, d) and names == others


def test_every_index_once_an_epoch_in_an_order_of_its_own():
    batches = EpochBatches(50, 10, seed=0)
    first, again = list(batches), list(batches)
    batches.epoch = 1
    second = list(batches)
    assert first == again and [len(batch) for batch in first] == [10] * 5
    orders = [[i for batch in epoch for _, i in batch] for epoch in (first, second)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(50)) and orders[0] != orders[1]
    assert {epoch for batch in second for epoch, _ in batch} == {1}
    assert list(EpochBatches(50, 10, seed=1)) != first


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 5), st.integers(1, 3))
def test_an_epoch_can_be_entered_anywhere_and_shared(length, size, start, world):
    whole = EpochBatches(length, size, seed=2)
    batches = list(whole)
    assert len(whole) == len(batches) == whole.per_epoch == length // min(size, length)
    whole.start = min(start, len(batches))
    assert list(whole) == batches[whole.start :] and len(whole) == len(batches) - whole.start
    if length < world:
        with pytest.raises(InputError, match="cannot be shared by"):
            EpochBatches(length, size, 2, 0, world)
        return
    if length // world * world < min(size, length):  # as many as they can share
        size = length // world * world
        batches = list(EpochBatches(length, size, seed=2))
    if min(size, length) % world:
        with pytest.raises(InputError, match="choose a multiple as --batch-size"):
            EpochBatches(length, size, 2, 0, world)
        return
    parts = [list(EpochBatches(length, size, 2, rank, world)) for rank in range(world)]
    for step, batch in enumerate(batches):
        assert sorted(x for part in parts for x in part[step]) == sorted(batch)
        assert len({len(part[step]) for part in parts}) == 1


@given(st.integers(2, 500), st.floats(0.01, 0.99), st.integers(0, 2**63))
def test_hold_out_is_a_split(length, fraction, seed):
    try:
        training, held_out = hold_out(length, fraction, seed)
    except InputError:
        assert round(length * fraction) >= length
        return
    assert sorted(training + held_out) == list(range(length))
    assert len(held_out) == max(1, round(length * fraction))
    assert (training, held_out) == hold_out(length, fraction, seed)


def test_what_is_held_out_is_drawn_by_the_seed():
    parts = {tuple(hold_out(100, 0.1, seed)[1]) for seed in range(20)}
    assert len(parts) == 20 and {i for part in parts for i in part} > set(range(50, 60))
    assert not any(last - first == 9 for first, *_, last in parts)  # no ten in a row


def test_one_image_cannot_be_split():
    with pytest.raises(InputError, match="1 images cannot be split"):
        hold_out(1, 0.1, 0)
