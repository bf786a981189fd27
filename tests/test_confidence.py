"""Confidence of bins: from the score that the border was drawn on, on sections drawn here."""

from dataclasses import replace

import numpy as np
import pytest

from helpers import Skin, junction_of, sine
from histoquant.anatomy import DERMIS, EPIDERMIS
from histoquant.confidence import UNSEEN, with_confidence
from histoquant.junction import Junction
from histoquant.morphometry import junction_bins
from histoquant.settings import Settings

SETTINGS = Settings()
LEAST = SETTINGS.junction.min_confidence


def section():
    """A drawn section with int8 scores, its true line with dermis on the right, the line's bins."""
    skin = Skin(sine(15, 200))
    compartments = skin.draw()
    score = np.rint(127 * np.clip(compartments.score, -1, 1)).astype(np.int8)
    junction = junction_of(skin.line[::8])
    return replace(compartments, score=score), junction, junction_bins(junction, 0.5, SETTINGS)


def test_a_border_that_is_seen_is_certain():
    compartments, junction, bins = section()
    found = with_confidence(bins, junction, compartments, LEAST)
    assert (found["confidence"][3:-3] > 0.6).all()
    assert not found["excluded"].any()
    np.testing.assert_array_equal(found["arc_start_um"], bins["arc_start_um"])


@pytest.mark.parametrize("label", [EPIDERMIS, DERMIS])
def test_a_line_through_one_kind_of_tissue_is_left_out_with_its_reason(label):
    compartments, junction, bins = section()
    half = compartments.score.shape[1] // 2
    score = compartments.score.copy()
    score[:, half:] = 127 if label == EPIDERMIS else -127
    found = with_confidence(bins, junction, replace(compartments, score=score), LEAST)
    right = found["x_px"] * 0.5 > half * compartments.mpp + 15
    left = found["x_px"] * 0.5 < half * compartments.mpp - 15
    assert found.loc[right, "excluded"].all()
    assert set(found.loc[right, "exclusion_reason"]) == {UNSEEN}
    assert (found.loc[right, "confidence"] == 0).all()
    assert not found.loc[left, "excluded"].any()


def test_a_line_that_lies_beside_the_border_is_less_certain():
    compartments, junction, bins = section()
    means = []
    for shift in (0.0, 6.0, 12.0):
        moved = junction_of(junction.stretches[0].points_um + [shift, 0.0])
        means.append(with_confidence(bins, moved, compartments, LEAST)["confidence"].mean())
    assert means[0] > means[1] + 0.1 > means[2]
    assert means[2] < LEAST


def test_what_a_person_drew_is_not_left_out():
    compartments, junction, bins = section()
    blank = replace(compartments, score=np.zeros_like(compartments.score))
    limits = np.where(np.arange(len(bins)) < 10, 0.0, LEAST)
    found = with_confidence(bins, junction, blank, limits)
    assert not found["excluded"][:10].any()
    assert found["excluded"][10:].all()


def test_bins_excluded_before_keep_their_reason_and_no_junction_has_no_bins():
    compartments, junction, bins = section()
    blank = replace(compartments, score=np.zeros_like(compartments.score))
    before = bins.assign(excluded=True, exclusion_reason="within the cut edge")
    found = with_confidence(before, junction, blank, LEAST)
    assert set(found["exclusion_reason"]) == {"within the cut edge"}
    none = Junction((), "no epidermis")
    empty = with_confidence(junction_bins(none, 0.5, SETTINGS), none, compartments, LEAST)
    assert len(empty) == 0
    assert "confidence" in empty
