"""A plan is locked once; what changes later is on record, and what is altered is found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from histoquant.errors import StudyError
from histoquant.study.lock import default_lock_path, lock_plan, read_lock, unblind
from histoquant.study.plan import Plan, read_plan

TEXT = """
title = "Rapamycin on hands"
primary = ["p16:positive_per_mm_dej"]
secondary = ["col7:integrated_od_um_mean"]
alpha = 0.05
seed = 7
[arms]
treated = "rapamycin"
placebo = "placebo"
[visits]
baseline = "baseline"
order = ["baseline", "month_8"]
[margin]
"p16:positive_per_mm_dej" = 1.25
"""
T = [f"2019-0{month}-01T00:00:00+00:00" for month in range(1, 8)]


def write(path: Path, text: str = TEXT) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return read_plan(write(tmp_path / "plan.toml"))


def changed(plan: Plan, **values: Any) -> Plan:
    return Plan.model_validate(plan.model_dump() | values)


def test_a_plan_gives_terms_and_roles(plan: Plan) -> None:
    assert (plan.terms.treated, plan.terms.placebo) == ("rapamycin", "placebo")
    assert (plan.terms.baseline, plan.terms.visits) == ("baseline", ("baseline", "month_8"))
    assert plan.roles["primary"] == ("p16:positive_per_mm_dej",)
    assert plan.margin == {"p16:positive_per_mm_dej": 1.25}


def test_the_hash_is_of_the_content(tmp_path: Path, plan: Plan) -> None:
    lines = TEXT.strip().splitlines()
    start = lines.index("[arms]")
    rewritten = ["# a comment", *reversed(lines[:start]), *lines[start:]]
    other = read_plan(write(tmp_path / "other.toml", "\n".join(rewritten).replace("0.05", "5e-2")))
    assert other.sha256 == plan.sha256
    assert changed(plan, alpha=0.01).sha256 != plan.sha256
    assert changed(plan, primary=["p16:h_score"]).sha256 != plan.sha256
    assert len(plan.sha256) == 64


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("alpa = 0.05", ["alpa", "Extra inputs", "A plan has title, primary"]),
        ('alpha = "small"', ["alpha", "small"]),
        ("alpha = 0.7", ["alpha", "0.7"]),
        ("seed = -1", ["seed", "-1"]),
        ('secondary = ["p16:positive_per_mm_dej"]', ["two roles: p16:positive_per_mm_dej"]),
        ('[margin]\n"p16:h_score" = 0', ["margins are ratios above 1: p16:h_score 0"]),
        ('[arms]\ntreated = "a"\nplacebo = "a"', ["named twice: a, a"]),
        ('[visits]\nbaseline = "b"\nprimary = "b"', ["primary visit 'b' is the baseline"]),
        ('[visits]\norder = ["m1"]\nbaseline = "b"', ["baseline visit 'b' is not in order"]),
        ('[visits]\norder = ["m1", "m1"]', ["named twice"]),
        ('[direction]\n"p16:h_score" = "down"', ["direction.p16:h_score", "down"]),
        ("alpha = ", ["is not TOML"]),
    ],
)
def test_what_is_wrong_with_a_plan_is_said(tmp_path: Path, line: str, words: list[str]) -> None:
    path = write(tmp_path / "plan.toml", 'primary = ["p16:positive_per_mm_dej"]\n' + line + "\n")
    with pytest.raises(StudyError) as caught:
        read_plan(path)
    assert all(word in str(caught.value) for word in [str(path), *words])


def test_everything_wrong_with_a_plan_comes_at_once(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="3 problem") as caught:
        read_plan(write(tmp_path / "plan.toml", "alpha = 2\nseed = -1\nx = 1"))
    assert str(caught.value).count("\n  ") == 3


def test_a_plan_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="cannot read the plan"):
        read_plan(tmp_path / "none.toml")


def test_a_lock_has_the_time_and_the_hash(tmp_path: Path, plan: Plan) -> None:
    path = default_lock_path(tmp_path / "plan.toml")
    lock = lock_plan(plan, path, time=T[0])
    assert path.name == "plan.lock.json"
    assert read_lock(path) == lock
    assert (lock.locked_at, lock.sha256, lock.first_sha256) == (T[0], plan.sha256, plan.sha256)
    assert lock.amendments == ()
    assert lock.unblinded_at == ""
    text = " ".join(lock.sentences())
    assert T[0] in text
    assert plan.sha256 in text
    assert "no amendment" in text
    assert not list(tmp_path.glob(".*"))


def test_the_same_plan_again_changes_nothing(tmp_path: Path, plan: Plan) -> None:
    path = tmp_path / "lock.json"
    first = lock_plan(plan, path, time=T[0])
    content = path.read_bytes()
    assert lock_plan(plan, path, time=T[1]) == first
    assert path.read_bytes() == content


def test_changes_are_amendments_before_and_after_unblinding(tmp_path: Path, plan: Plan) -> None:
    path = tmp_path / "lock.json"
    lock_plan(plan, path, time=T[0])
    second = changed(plan, alpha=0.01)
    lock_plan(second, path, time=T[1], why="asked by the reviewers")
    unblind(path, T[2])
    unblind(path, T[3])  # the first time counts
    third = changed(second, primary=["p16:h_score"], margin={})
    lock = lock_plan(third, path, time=T[4])
    before, after = lock.amendments
    assert before.changes == ("alpha: 0.05 -> 0.01",)
    assert (before.old_sha256, before.new_sha256) == (plan.sha256, second.sha256)
    assert not before.after_unblinding
    assert set(after.changes) == {
        "primary: p16:positive_per_mm_dej -> p16:h_score",
        "margin.p16:positive_per_mm_dej: 1.25 -> none",
    }
    assert after.after_unblinding
    assert (lock.unblinded_at, lock.sha256, lock.first_sha256) == (T[2], third.sha256, plan.sha256)
    text = "\n".join(lock.sentences())
    assert f"Amended {T[1]}, before unblinding (asked by the reviewers): alpha: 0.05" in text
    assert f"Amended {T[4]}, after unblinding" in text
    assert f"Arms were first joined to results {T[2]}" in text


def test_a_plan_changed_back_is_an_amendment_too(tmp_path: Path, plan: Plan) -> None:
    path = tmp_path / "lock.json"
    for number, alpha in enumerate((0.05, 0.01, 0.05)):
        lock = lock_plan(changed(plan, alpha=alpha), path, time=T[number])
    assert [a.changes for a in lock.amendments] == [
        ("alpha: 0.05 -> 0.01",),
        ("alpha: 0.01 -> 0.05",),
    ]


def test_a_plan_locked_after_results_were_seen_says_so(tmp_path: Path, plan: Plan) -> None:
    lock = lock_plan(plan, tmp_path / "lock.json", seen=True, time=T[0])
    assert "when results had been seen with their arms" in lock.sentences()[0]
    assert lock.unblinded_at == T[0]
    later = lock_plan(changed(plan, alpha=0.01), tmp_path / "lock.json", time=T[1])
    assert later.amendments[0].after_unblinding


def test_a_field_that_a_later_version_adds_is_no_amendment(tmp_path: Path, plan: Plan) -> None:
    """The lock of a version whose plan had no `seed` yet: the seed it means is the default."""
    path = tmp_path / "lock.json"
    unseeded = changed(plan, seed=0)
    lock_plan(unseeded, path, time=T[0])
    _rewrite(path, lambda entries: entries[0]["plan"].pop("seed"), seal=True)
    assert lock_plan(unseeded, path, time=T[1]).amendments == ()
    assert len(lock_plan(plan, path, time=T[2]).amendments) == 1


def _rewrite(path: Path, change: Any, seal: bool = False) -> None:
    from histoquant.study.plan import content_sha256

    content = json.loads(path.read_text(encoding="utf-8"))
    change(content["entries"])
    for entry in content["entries"] if seal else ():
        entry["sha256"] = content_sha256(entry["plan"])
        entry["seal"] = content_sha256({k: v for k, v in entry.items() if k != "seal"})
        content["head"] = entry["seal"]
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda e: e[0].update(time=T[5]), "entry 1 .* was altered"),
        (lambda e: e[0]["plan"].update(alpha=0.01), "entry 1 .* was altered"),
        (lambda e: e[1].update(changes=[]), "entry 2 .* was altered"),
        (lambda e: e[1].update(after_unblinding=False), "entry 2 .* was altered"),
        (lambda e: e.pop(1), "does not follow"),
        (lambda e: e.pop(0), "first entry is missing"),
        (lambda e: e.pop(), "last entry was cut off"),
        (lambda e: e.clear(), "first entry is missing"),
        (lambda e: e.reverse(), "first entry is missing"),
    ],
)
def test_tampering_is_found(tmp_path: Path, plan: Plan, change: Any, word: str) -> None:
    path = tmp_path / "lock.json"
    lock_plan(plan, path, time=T[0])
    unblind(path, T[1])
    lock_plan(changed(plan, alpha=0.01), path, time=T[2])
    _rewrite(path, change)
    for act in (read_lock, lambda p: lock_plan(plan, p), unblind):
        with pytest.raises(StudyError, match=word):
            act(path)


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"entries": 3, "head": ""}', '{"entries": [1]}']
)
def test_what_is_no_lock_is_refused_and_left_as_it_is(
    tmp_path: Path, plan: Plan, content: str
) -> None:
    path = tmp_path / "lock.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(StudyError, match=r"lock\.json is not the lock of a plan"):
        lock_plan(plan, path)
    assert path.read_text(encoding="utf-8") == content


def test_without_a_lock_nothing_can_be_unblinded(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="cannot read the plan's lock"):
        unblind(tmp_path / "lock.json")


def test_a_lock_that_cannot_be_written_is_said(tmp_path: Path, plan: Plan) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match="cannot write the plan's lock"):
        lock_plan(plan, tmp_path / "file" / "lock.json")
