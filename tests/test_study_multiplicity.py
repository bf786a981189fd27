"""Corrected P values: worked by hand, and by role."""

from __future__ import annotations

import numpy as np
import pytest

from histoquant.study.multiplicity import Corrected, correct_by_role, correct_p

P = [0.01, 0.04, 0.03, 0.005]


def test_holm_by_hand() -> None:
    np.testing.assert_allclose(correct_p(P, "holm"), [0.03, 0.06, 0.06, 0.02], rtol=1e-12)


def test_benjamini_hochberg_by_hand() -> None:
    np.testing.assert_allclose(correct_p(P, "fdr_bh"), [0.02, 0.04, 0.04, 0.02], rtol=1e-12)


def test_the_fifteen_p_values_of_benjamini_and_hochberg() -> None:
    """Benjamini & Hochberg 1995, section 3.2: four are rejected at 0.05, three by Bonferroni."""
    published = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240,
                 0.4262, 0.5719, 0.6528, 0.7590, 1.0000]  # fmt: skip
    assert (correct_p(published, "fdr_bh") <= 0.05).sum() == 4
    assert (correct_p(published, "holm") <= 0.05).sum() == 3


def test_missing_p_values_take_no_part() -> None:
    found = correct_p([0.01, np.nan, 0.04], "holm")
    np.testing.assert_allclose(found, [0.02, np.nan, 0.04])
    assert np.isnan(correct_p([np.nan, np.nan], "fdr_bh")).all()
    assert correct_p([], "holm").size == 0


def test_each_role_is_a_family_of_its_own() -> None:
    roles = ["secondary", "primary", "exploratory", "secondary", "exploratory"]
    found = correct_by_role(roles, [0.02, 0.04, 0.03, 0.03, np.nan])
    assert found[1].p_holm == 0.04  # one primary outcome stands as it is
    assert np.isnan(found[1].p_bh)
    assert [found[0].p_holm, found[3].p_holm] == pytest.approx([0.04, 0.04])
    assert found[2].p_bh == 0.03
    assert np.isnan(found[4].p_bh)
    assert np.isnan(Corrected().p_holm)


def test_several_primary_outcomes_share_the_level() -> None:
    found = correct_by_role(["primary", "primary"], [0.03, 0.2])
    assert [c.p_holm for c in found] == pytest.approx([0.06, 0.2])
