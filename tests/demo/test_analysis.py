"""The input and what is computed from it: real, the same everywhere, and no matter how it is cut."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import typing

import attrs
import pytest

from examples.rolling_deploy import analysis
from examples.rolling_deploy.analysis import (
    Comparison,
    Figures,
    Sources,
    Syntax,
    Tokens,
    calibrate,
    compare,
    parse,
    read,
    step_names,
    summarise,
    tokenize,
)
from examples.rolling_deploy.corpus import DEFAULT_JOBS, deal, module_path, stdlib_modules
from examples.rolling_deploy.truth import truth

JOBS, MODULES = 3, 4


@pytest.fixture(scope="module")
def groups():
    return deal(JOBS, MODULES)


def test_files_are_dealt_once_and_exist(groups):
    dealt = [module for group in groups for module in group.modules]
    assert len(dealt) == len(set(dealt)) == JOBS * MODULES
    assert all(module_path(module).is_file() for module in dealt)
    assert [group.job for group in groups] == ["job-001", "job-002", "job-003"]


def test_no_foreign_and_no_test_files():
    modules = stdlib_modules()
    assert list(modules) == sorted(modules)
    assert not any("site-packages" in module or "/test" in module for module in modules)


def test_the_groups_weigh_about_the_same():
    weights = [sum(module_path(module).stat().st_size for module in group.modules) for group in deal(12, 6)]
    assert max(weights) < 2 * min(weights)


def test_the_default_input_is_there():
    assert len(deal()) == DEFAULT_JOBS


@pytest.mark.parametrize(
    ("jobs", "modules", "message"),
    [(0, 2, "jobs must be at least 1, not 0"), (1, 1, "modules must be .* not 1"), (10**6, 2, "offers")],
)
def test_impossible_deals_are_refused(jobs, modules, message):
    with pytest.raises(ValueError, match=message):
        deal(jobs, modules)


def test_files_that_do_not_parse_are_left_out(monkeypatch, tmp_path):
    from examples.rolling_deploy import corpus

    for number in range(6):
        broken = number in (1, 4)
        text = "x = (\n" if broken else f"x = {number}\n"
        (tmp_path / f"m{number}.py").write_text(text * 1000)
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "site-packages" / "foreign.py").write_text("x = 1\n" * 1000)
    monkeypatch.setattr(corpus, "_root", lambda: tmp_path)
    corpus.stdlib_modules.cache_clear()
    try:
        assert [group.modules for group in corpus.deal(2, 2)] == [("m0.py", "m5.py"), ("m2.py", "m3.py")]
        with pytest.raises(ValueError, match="only 4 of"):
            corpus.deal(3, 2)
    finally:
        corpus.stdlib_modules.cache_clear()


def steps(group, work_factor=1, slices=analysis.COMPARE_SLICES):
    modules = group.modules
    comparisons = [compare(modules, part, slices, work_factor) for part in range(slices)]
    return summarise(modules, read(modules), tokenize(modules), parse(modules), comparisons)


def test_the_steps_come_to_the_truth_however_the_work_is_cut(groups):
    expected = truth(groups).to_dict()
    for slices, work_factor in [(5, 1), (3, 2), (1, 3), (7, 1)]:
        total = Figures()
        for group in groups:
            total += steps(group, work_factor, slices)
        assert total.to_dict() == expected


def test_the_truth_is_plausible(groups):
    figures = truth(groups)
    assert figures.modules == JOBS * MODULES
    assert figures.pairs == JOBS * MODULES * (MODULES - 1) // 2
    texts = [module_path(module).read_bytes() for group in groups for module in group.modules]
    assert figures.bytes == sum(map(len, texts))
    assert figures.lines == sum(text.count(b"\n") for text in texts)
    assert 0 < figures.names < figures.tokens
    assert 0 < figures.functions < figures.nodes
    assert figures.shared > 0
    assert all(isinstance(value, int) for value in figures.to_dict().values())


def test_the_truth_is_the_same_in_a_process_with_another_hash_seed(groups):
    command = [sys.executable, "-m", "examples.rolling_deploy.truth", "--jobs", str(JOBS), "--modules", str(MODULES)]
    env = {**os.environ, "PYTHONHASHSEED": "4711"}
    printed = subprocess.run(command, env=env, stdout=subprocess.PIPE, check=True, text=True).stdout
    assert json.loads(printed) == truth(groups).to_dict()


def test_identical_modules_are_wholly_similar():
    module = stdlib_modules()[0]
    figures = compare((module, module))
    assert (figures.pairs, figures.similarity, figures.similar) == (1, 1000, 1)


def test_results_are_small_and_can_travel(groups):
    modules = groups[0].modules
    for result in (read(modules), tokenize(modules), parse(modules), compare(modules)):
        assert pickle.loads(pickle.dumps(result)) == result
        assert len(json.dumps(attrs.asdict(result))) < 200
    for step in (read, tokenize, parse, compare, summarise):
        assert pickle.loads(pickle.dumps(step)) is step


def test_what_a_step_returns_can_be_read_from_its_annotations():
    kinds = {read: Sources, tokenize: Tokens, parse: Syntax, compare: Comparison, summarise: Figures}
    assert {step: typing.get_type_hints(step)["return"] for step in kinds} == kinds


def test_rounds_that_differ_are_an_error(groups, monkeypatch):
    rounds = iter([Comparison(1, 1, 1, 1), Comparison(1, 2, 1, 1)])
    monkeypatch.setattr(analysis, "_slice", lambda pairs: next(rounds))
    with pytest.raises(RuntimeError, match="two rounds of slice 0 differ"):
        compare(groups[0].modules, work_factor=2)


def test_files_changed_under_the_job_are_an_error(groups):
    modules = groups[0].modules
    other = attrs.evolve(read(modules), digest=1)
    with pytest.raises(RuntimeError, match="changed"):
        summarise(modules, other, tokenize(modules), parse(modules), [])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((5, 5, 1), "part must be in 0..4, not 5"), ((-1, 5, 1), "part"), ((0, 5, 0), "work_factor .* not 0")],
)
def test_numbers_out_of_range_are_refused(groups, arguments, message):
    with pytest.raises(ValueError, match=message):
        compare(groups[0].modules, *arguments)


def test_figures_add_up_and_travel():
    one = Figures(modules=1, pairs=2)
    assert one + Figures(modules=3, similar=4) == Figures(modules=4, pairs=2, similar=4)
    assert Figures.from_dict(one.to_dict()) == one
    with pytest.raises(TypeError):
        Figures.from_dict({"unknown": 1})


def test_the_work_factor_grows_with_the_target(groups):
    assert calibrate(groups, 0.0) == 1
    assert calibrate(groups, 0.5) > calibrate(groups, 0.01) >= 1
    assert calibrate(groups, 10.0, most=7) == 7
    with pytest.raises(ValueError, match="no group"):
        calibrate([], 1.0)


def test_the_names_of_the_steps():
    assert step_names(2) == ("read", "tokenize", "parse", "compare-1", "compare-2", "summarise")
