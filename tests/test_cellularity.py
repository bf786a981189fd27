"""Nuclei per mm2 in pieces of epithelium and around them, and what is decided by it."""

import numpy as np
import pytest

from histoquant.blocks import Block
from histoquant.cellularity import count_nuclei
from histoquant.evidence import Coarse

MPP, FACTOR = 2.0, 2
SIDE = 300  # coarse pixels of 4 um: 1.44 mm2


def field_of(tissue=None):
    """A field of which only the place, the scale and the tissue matter."""
    tissue = np.ones((SIDE, SIDE), bool) if tissue is None else tissue
    nothing = np.zeros(tissue.shape, np.float32)
    box = Block(40, 60, *(n * FACTOR for n in tissue.shape))
    return Coarse(box, MPP * FACTOR, tissue, nothing, nothing, nothing, [nothing], nothing)


def scattered(rng, per_mm2, rows, columns, box, od=0.5):
    """Nuclei in a part of a field, given in coarse pixels: centroids (y, x) in um, and their OD."""
    low = np.array([rows[0], columns[0]]) * FACTOR * MPP + np.array([box.y, box.x]) * MPP
    size = np.array([rows[1] - rows[0], columns[1] - columns[0]]) * FACTOR * MPP
    count = round(per_mm2 * size.prod() / 1e6)
    return low + rng.random((count, 2)) * size, np.full(count, od)


def finder(*groups):
    """What finds the given nuclei, and notes the blocks that it was asked for."""
    places, od = (np.concatenate(part) for part in zip(*groups, strict=True))
    asked = []

    def find(blocks):
        asked.append(list(blocks))
        own = np.zeros(len(places), bool)
        for block in blocks:
            own |= block.owns(places / MPP)
        return places[own], od[own]

    find.asked = asked
    return find


def skin(rng, box, *more):
    """What finds 6,000 nuclei per mm2 in rows 10 to 40, 900 below them, and some more."""
    return finder(
        scattered(rng, 6000, (10, 40), (0, SIDE), box),
        scattered(rng, 900, (40, SIDE), (0, SIDE), box),
        *more,
    )


@pytest.fixture
def two_pieces():
    """A strip that holds 6,000 nuclei per mm2, and a patch as bare as the dermis around it."""
    strip, patch = (np.zeros((SIDE, SIDE), bool) for _ in range(2))
    strip[10:40], patch[150:200, 20:80] = True, True
    return strip, patch


def test_pieces_and_what_is_around_them_are_counted(two_pieces):
    strip, patch = two_pieces
    rng, field = np.random.default_rng(3), field_of()
    find = skin(rng, field.box)
    cells = count_nuclei([field], [strip | patch], [field.tissue], MPP, find)
    first, second = (int(cells.numbers[0][mask].max()) for mask in two_pieces)
    assert {first, second} == {1, 2}
    assert len(cells.pieces) == 3
    assert cells.pieces[first] == pytest.approx(6000, rel=0.05)
    assert cells.pieces[second] == pytest.approx(900, rel=0.4)
    assert cells.around == pytest.approx(900, rel=0.15)


def test_an_infiltrate_does_not_change_what_is_around():
    """Lymphocytes fill a part of the dermis: the median of the cells does not move."""
    strip = np.zeros((SIDE, SIDE), bool)
    strip[:30] = True
    rng, field = np.random.default_rng(4), field_of()
    find = finder(
        scattered(rng, 6000, (0, 30), (0, SIDE), field.box),
        scattered(rng, 900, (30, SIDE), (0, SIDE), field.box),
        scattered(rng, 9000, (236, SIDE), (0, 128), field.box),
    )
    cells = count_nuclei([field], [strip], [field.tissue], MPP, find)
    assert cells.around == pytest.approx(900, rel=0.25)  # the mean is 1,800


def test_pale_bits_do_not_count(two_pieces):
    strip, _ = two_pieces
    rng, field = np.random.default_rng(5), field_of()
    find = skin(rng, field.box, scattered(rng, 3000, (40, SIDE), (0, SIDE), field.box, od=0.3))
    assert count_nuclei([field], [strip], [field.tissue], MPP, find).around == pytest.approx(
        900, rel=0.15
    )


def test_a_large_slide_costs_no_more_than_some_cells():
    side = 1500  # 36 mm2
    strip = np.zeros((side, side), bool)
    strip[10:40] = True
    field = field_of(np.ones((side, side), bool))
    find = finder(scattered(np.random.default_rng(6), 6000, (10, 40), (0, side), field.box))
    count_nuclei([field], [strip], [field.tissue], MPP, find)
    (blocks,) = find.asked
    assert 16 <= len(set(blocks)) == len(blocks) <= 4 + 16


def test_glass_is_not_around():
    """Two thirds of the field is glass; what is found on it does not count."""
    tissue = np.zeros((SIDE, SIDE), bool)
    tissue[:128] = True
    strip = np.zeros((SIDE, SIDE), bool)
    strip[:30] = True
    rng, field = np.random.default_rng(7), field_of(tissue)
    find = finder(
        scattered(rng, 6000, (0, 30), (0, SIDE), field.box),
        scattered(rng, 900, (30, 128), (0, SIDE), field.box),
        scattered(rng, 3000, (128, SIDE), (0, SIDE), field.box),
    )
    assert count_nuclei([field], [strip], [field.tissue], MPP, find).around == pytest.approx(
        900, rel=0.15
    )


def test_without_room_around_nothing_is_said():
    everything = np.ones((SIDE, SIDE), bool)
    find = finder(scattered(np.random.default_rng(8), 6000, (0, SIDE), (0, SIDE), field_of().box))
    cells = count_nuclei([field_of()], [everything], [everything], MPP, find)
    assert np.isnan(cells.around)
    assert cells.pieces[1] == pytest.approx(6000, rel=0.05)


def test_what_cannot_be_read_is_not_counted(two_pieces):
    """A fold hides half of the strip and all of the patch."""
    strip, patch = two_pieces
    rng, field = np.random.default_rng(9), field_of()
    readable = field.tissue & ~patch
    readable[:, SIDE // 2 :] = False
    find = finder(
        scattered(rng, 6000, (10, 40), (0, SIDE // 2), field.box),
        scattered(rng, 900, (40, SIDE), (0, SIDE // 2), field.box),
    )
    cells = count_nuclei([field], [strip | patch], [readable], MPP, find)
    first, second = (int(cells.numbers[0][mask].max()) for mask in two_pieces)
    assert cells.pieces[first] == pytest.approx(6000, rel=0.05)
    assert np.isnan(cells.pieces[second])
    assert cells.around == pytest.approx(900, rel=0.25)


def test_a_nucleus_on_the_far_edge_of_a_cell_is_in_it():
    """At some scales its place is rounded onto the edge."""
    mpp, cell, third = 3.241, 79, 3
    tissue = np.ones((cell * third, cell), bool)
    flat = np.zeros(tissue.shape, np.float32)
    field = Coarse(Block(0, 0, *tissue.shape), mpp, tissue, flat, flat, flat, [flat], flat)
    edge_um = 768.117
    assert edge_um / mpp < cell * third
    assert (edge_um - cell * (third - 1) * mpp) / mpp >= cell

    def find(blocks):
        return np.array([[edge_um, 100.0]]), np.array([0.5])

    cells = count_nuclei([field], [tissue], [tissue], mpp, find)
    assert cells.pieces[1] > 0
