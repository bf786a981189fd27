"""Open files: one per process, shared by threads, bounded, closed, never under a reader."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest
import tifffile

from histoquant.errors import SlideError
from histoquant.slides import handles, open_slide
from histoquant.slides.handles import LARGEST_OPEN, Handle, open_count
from slide_writers import texture, write_mrxs, write_scn, write_vms


class Thing:
    """Counts how it is opened, used and closed."""

    opened = 0
    alive = 0

    def __init__(self):
        Thing.opened += 1
        Thing.alive += 1
        self.is_open = True

    def close(self):
        assert self.is_open, "closed twice"
        self.is_open = False
        Thing.alive -= 1


@pytest.fixture(autouse=True)
def _fresh_count():
    gc.collect()
    Thing.opened = Thing.alive = 0


def handle():
    return Handle(Thing, Thing.close)


def test_opens_at_the_first_use_and_again_after_close():
    one = handle()
    assert Thing.opened == 0
    with one.use() as first, one.use() as second:
        assert first is second
    assert (Thing.opened, Thing.alive) == (1, 1)
    one.close()
    one.close()
    assert Thing.alive == 0
    with one.use() as third:
        assert third.is_open
        assert third is not first
    one.close()


def test_close_waits_for_whoever_is_using_it():
    one = handle()
    with one.use() as inner:
        one.close()
        assert inner.is_open
        with one.use() as fresh:
            assert fresh is not inner
    assert not inner.is_open
    assert fresh.is_open
    one.close()
    assert Thing.alive == 0


def test_is_closed_with_its_owner():
    one = handle()
    with one.use():
        pass
    before = open_count()
    del one
    gc.collect()
    assert Thing.alive == 0
    assert open_count() == before - 1


def test_the_least_recently_used_is_closed_when_too_many_are_open():
    many = [handle() for _ in range(LARGEST_OPEN + 10)]
    for number, one in enumerate(many):
        with one.use():
            pass
        with many[0].use():
            pass
        assert Thing.alive <= LARGEST_OPEN
        assert Thing.opened == number + 1, "the one used all the time was closed"
    assert open_count() == LARGEST_OPEN
    for one in many:
        one.close()
    assert Thing.alive == 0


def test_those_in_use_stay_open_beyond_the_limit():
    many = [handle() for _ in range(LARGEST_OPEN + 5)]
    blocks = [one.use() for one in many]
    things = [block.__enter__() for block in blocks]
    assert all(thing.is_open for thing in things)
    for block in blocks:
        block.__exit__(None, None, None)
    assert Thing.alive <= LARGEST_OPEN
    for one in many:
        one.close()
    assert Thing.alive == 0


def test_error_in_opening_reaches_the_user_and_is_tried_again():
    attempts = []

    def open_it():
        attempts.append(1)
        if len(attempts) == 1:
            raise OSError("disk gone")
        return Thing()

    one = Handle(open_it, Thing.close)
    with pytest.raises(OSError, match="disk gone"), one.use():
        pass
    with one.use() as thing:
        assert thing.is_open
    one.close()


def test_threads_that_come_together_open_it_once_and_never_meet_a_closed_one():
    barrier = threading.Barrier(8)

    def open_slowly():
        time.sleep(0.02)
        return Thing()

    one = Handle(open_slowly, Thing.close)

    def work(number):
        barrier.wait()
        seen = []
        for turn in range(50):
            with one.use() as thing:
                seen.append(thing.is_open)
                time.sleep(0.0002)
                seen.append(thing.is_open)
            if number == 0 and turn % 10 == 9:
                one.close()
        return all(seen)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))
    assert Thing.opened <= 6
    one.close()
    assert Thing.alive == 0


def write_small_tiff(path, side=80):
    options = {"resolution": (4e4, 4e4), "resolutionunit": "CENTIMETER", "metadata": None}
    tifffile.imwrite(path, texture(side, side), tile=(64, 64), photometric="rgb", **options)


def test_five_hundred_slides_do_not_use_up_the_files_a_process_may_open(tmp_path):
    write_small_tiff(tmp_path / "0.tif")
    for k in range(1, 500):
        shutil.copy(tmp_path / "0.tif", tmp_path / f"{k}.tif")
    process = psutil.Process()
    before = process.num_fds()
    kept = []
    for k in range(500):
        slide = open_slide(tmp_path / f"{k}.tif")
        assert slide.region(0, 0, 80, 80).shape == (80, 80, 3)
        kept.append(slide)  # nobody closes them
        assert process.num_fds() <= before + LARGEST_OPEN + 2
    np.testing.assert_array_equal(kept[0].region(0, 0, 80, 80), texture(80, 80))
    kept.clear()
    del slide
    gc.collect()
    assert process.num_fds() <= before


@pytest.mark.parametrize("write", ["scn", "mrxs", "vms"])
def test_slides_of_openslide_do_not_either(tmp_path, write):
    written = _write(write, tmp_path)
    process = psutil.Process()
    with open_slide(written.path) as slide:  # loads the library
        slide.region(0, 0, 10, 10)
    before = process.num_fds()
    kept = [open_slide(written.path) for _ in range(3 * LARGEST_OPEN)]
    for slide in kept:
        slide.region(0, 0, 10, 10)
    assert process.num_fds() <= before + LARGEST_OPEN
    kept.clear()
    del slide
    gc.collect()
    assert process.num_fds() <= before


def _write(kind, folder):
    if kind == "scn":
        return write_scn(folder / "a.scn", [(40, 50, texture(200, 300))], (300, 400))
    if kind == "vms":
        return write_vms(folder / "a.vms")
    images = {(r, c): texture(48, 64, 10 * r + c) for r in range(1, 4) for c in range(1, 4)}
    return write_mrxs(folder / "a.mrxs", images, (4, 4))


@pytest.mark.parametrize("kind", ["scn", "mrxs", "vms"])
def test_threads_read_through_one_handle_what_one_reads(tmp_path, kind):
    written = _write(kind, tmp_path)
    height, width = written.truth.shape[:2]
    windows = [(y, x) for y in range(0, height - 40, 23) for x in range(0, width - 40, 29)]
    expected = np.where(np.isnan(written.truth), 255, written.truth)
    slide = open_slide(written.path)

    def is_right(corner):
        y, x = corner
        if (y + x) % 5 == 0:
            slide.close()  # in the middle of the other threads' reads
        return np.array_equal(slide.region(y, x, 40, 40), expected[y : y + 40, x : x + 40])

    with slide, ThreadPoolExecutor(8) as pool:
        assert all(pool.map(is_right, windows))


def read_sum(slide):
    with slide:
        return int(slide.overview(0.5).sum())


@pytest.mark.parametrize("kind", ["scn", "mrxs", "vms"])
def test_spawned_process_reads_the_same(tmp_path, kind):
    slide = open_slide(_write(kind, tmp_path).path)
    expected = read_sum(slide)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(read_sum, [slide]) == [expected]


def test_copies_in_a_process_share_what_was_read_of_the_file_until_it_changes(tmp_path):
    path = tmp_path / "a.tif"
    write_small_tiff(path)
    slide = open_slide(path)
    pickled = pickle.dumps(slide)
    first, second = pickle.loads(pickled), pickle.loads(pickled)
    assert first._source is not second._source  # it may still be being written
    os.utime(path, ns=(10**18, 10**18))
    first, second, third = (pickle.loads(pickled) for _ in range(3))
    assert first._source is second._source
    assert first._source is not slide._source
    np.testing.assert_array_equal(third.region(0, 0, 80, 80), texture(80, 80))
    first.close()
    np.testing.assert_array_equal(third.region(0, 0, 80, 80), texture(80, 80))
    os.utime(path, ns=(10**18 + 1, 10**18 + 1))
    assert pickle.loads(pickled)._source is not first._source
    lenient = pickle.loads(pickle.dumps(open_slide(path, on_damage="missing")))
    assert lenient._source is not pickle.loads(pickled)._source


def test_few_sources_are_kept_for_copies(tmp_path):
    copies = []
    for k in range(8):
        write_small_tiff(tmp_path / f"{k}.tif")
        os.utime(tmp_path / f"{k}.tif", ns=(10**18, 10**18))
        copy = pickle.loads(pickle.dumps(open_slide(tmp_path / f"{k}.tif")))
        copies.append(weakref.ref(copy._source))
        del copy
    gc.collect()
    assert sum(source() is not None for source in copies) == 4


FORK = """
import os, sys
import numpy as np
from histoquant.slides import open_slide
from histoquant.slides.handles import Handle, open_count

opened_by = []
handle = Handle(lambda: opened_by.append(os.getpid()) or [], lambda value: value.append("closed"))
with handle.use() as parents:
    pass
slides = [open_slide(path) for path in sys.argv[1:]]
before = [slide.region(0, 0, 100, 100) for slide in slides]
assert open_count() >= len(slides)
child = os.fork()
if child == 0:
    try:
        assert open_count() == 0, "the child uses its parent's handles"
        handle.close()
        assert parents == [], "the child closes what its parent reads through"
        with handle.use() as own:
            assert own is not parents and opened_by[1:] == [os.getpid()]
        handle.close()
        assert (own, parents) == (["closed"], [])
        for slide in slides:
            slide._source._cache.clear()
        same = [np.array_equal(s.region(0, 0, 100, 100), b) for s, b in zip(slides, before)]
        assert all(same) and open_count() == len(slides)
    except BaseException as error:
        print(repr(error), flush=True)
        os._exit(1)
    os._exit(0)
for slide, pixels in zip(slides, before):
    for turn in range(20):
        slide._source._cache.clear()
        assert np.array_equal(slide.region(0, 0, 100, 100), pixels)
print("child", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(handles.os, "fork"), reason="this system cannot fork")
def test_fork_never_shares_a_handle(tmp_path):
    write_small_tiff(tmp_path / "b.tif", side=200)
    paths = [tmp_path / "b.tif", *(_write(k, tmp_path).path for k in ("scn", "mrxs", "vms"))]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK, *map(str, paths)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "child 0\n"), done.stdout + done.stderr


def test_a_slide_that_cannot_be_used_leaves_nothing_open(tmp_path):
    path = write_scn(tmp_path / "a.scn", [(0, 0, texture(64, 64))], (100, 100), um=40).path
    process = psutil.Process()
    with pytest.raises(SlideError):
        open_slide(path)
    gc.collect()
    before = process.num_fds()
    for _ in range(5):
        with pytest.raises(SlideError, match="expected 0.05-20.0 um/px"):
            open_slide(path)
    gc.collect()
    assert process.num_fds() <= before
