"""What must be so of every rule, and how rules are chosen."""

import re
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mlia.rules
import mlia.transforms.remedies
from mlia.errors import RuleError
from mlia.rules.catalog import ABOUT, CODES, About, all_rules, chosen, find_rule
from mlia.rules.rule import CompiledRule, ConstraintRule, CpuRule, NpuRule, Rule

SECTIONS = ["Why it matters", "How it is found", "What to do", "Limits", "Source"]


def test_codes_and_names_are_unique_and_well_formed() -> None:
    rules = all_rules()
    assert len({rule.name for rule in rules}) == len({rule.code for rule in rules}) == len(rules)
    for rule in all_rules():
        assert re.fullmatch(r"(CMP|PER|MEM|OPT|QNT|CPU|VER)\d{3}", rule.code)
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", rule.name)
        assert issubclass(rule, NpuRule | CpuRule | CompiledRule)


def test_every_rule_of_every_file_is_in_the_catalog() -> None:
    files = [path for path in Path(mlia.rules.__path__[0]).rglob("*.py") if "\nRULES" in path.read_text()]
    codes = [code for path in files for code in re.findall(r'^    code = "(\w+)"$', path.read_text(), re.MULTILINE)]
    assert sorted(codes) == list(CODES)


@pytest.mark.parametrize("rule", all_rules(), ids=lambda rule: rule.code)
def test_what_a_rule_is_about_is_what_it_is_asked_of(rule: type[Rule]) -> None:
    kind = NpuRule if ABOUT[rule.code] in (About.NPU, About.REFUSED) else CpuRule
    assert issubclass(rule, CompiledRule if ABOUT[rule.code] == About.COMPILED else kind)


@pytest.mark.parametrize("rule", all_rules(), ids=lambda rule: rule.code)
def test_every_rule_has_a_page(rule: type[Rule]) -> None:
    page = rule.page()
    assert re.findall(r"^## (.*)$", page, re.MULTILINE) == SECTIONS
    assert rule.summary().endswith(".")
    assert len(rule.summary()) < 200
    for section in page.split("## ")[1:]:
        heading, _, text = section.partition("\n")
        assert len(text.split()) >= 5, f"{rule.code}: {heading} says nothing"
    assert max(len(line) for line in page.splitlines()) <= 120


def test_a_sentence_of_the_hardware_belongs_to_one_rule() -> None:
    beginnings = [(text, rule) for rule in all_rules() if issubclass(rule, ConstraintRule) for text in rule.sentences]
    for text, rule in beginnings:
        for other, theirs in beginnings:
            assert rule is theirs or not other.startswith(text), f"{rule.code} and {theirs.code} claim '{other}'"


def test_rules_are_found_by_code_and_name() -> None:
    for rule in all_rules():
        assert find_rule(rule.code.lower()) is rule
        assert find_rule(rule.name) is rule


@given(st.text(max_size=12))
def test_anything_else_is_refused(text: str) -> None:
    if text.lower() not in {word for rule in all_rules() for word in (rule.code.lower(), rule.name)}:
        with pytest.raises(RuleError):
            find_rule(text)


def test_rules_are_chosen_by_beginnings() -> None:
    assert chosen((), ()) == CODES
    assert chosen(("cmp06",), ("CMP061",)) == ("CMP060",)
    with pytest.raises(RuleError, match="begins with 'XYZ'"):
        chosen((), ("XYZ",))
    with pytest.raises(RuleError):
        chosen(("",), ())


def test_every_remedy_that_is_named_is_there() -> None:
    named = {
        name
        for path in Path(mlia.rules.__path__[0]).rglob("*.py")
        for name in re.findall(r'"([a-z_]+\.[a-z_0-9]+)"', path.read_text())
        if (Path(mlia.transforms.remedies.__path__[0]) / f"{name.partition('.')[0]}.py").exists()
    }
    assert len(named) > 40
    for name in named:
        module, _, function = name.partition(".")
        assert callable(getattr(import_module(f"mlia.transforms.remedies.{module}"), function))
