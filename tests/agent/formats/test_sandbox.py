"""Templates that would take the house down, and what they are allowed instead."""

import time
from decimal import Decimal

import pytest

from agent.formats.sandbox import BLOCK_BUDGET, FILTERS, MAX_OUTPUT, RENDER_BUDGET, Budget, Sandbox, TemplateFault

POINTS = [{"name": f"p{number}", "value": Decimal(number)} for number in range(100)]


def rendered(source: str, **variables: object) -> str:
    """Render once."""
    return Sandbox("Asia/Ho_Chi_Minh").read(source).render(variables, Budget())


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__ }}{{ x() }}",
        "{{ x.append(1) }}",
        "{{ 'a'.ljust(1000000000) }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ range(1000000000) | list }}",
        "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}",
        "{% for a in x recursive %}{{ loop(x) }}{% endfor %}",
        "{% include 'x' %}",
        "{% import 'x' as y %}",
        "{% extends 'x' %}",
        "{% block a %}{% endblock %}",
        "{% filter upper %}a{% endfilter %}",
        "{% call x() %}{% endcall %}",
        "{% set a %}{{ x }}{% endset %}",
        "{{ 2 ** 1000000000 }}",
        "{{ x ~ x }}",
        "{{ x | join(x) }}",
        "{{ x | replace('a', 'aaaaaaaa') }}",
        "{{ x | center(1000000000) }}",
        "{{ x | tojson }}",
        "{{ 'a' | list }}",
        "{{ x",
        "{% for a in x %}",
        "{{ " + "(" * 500 + "1" + ")" * 500 + " }}",
        "{{ " + "9" * 5000 + " }}",
        "".join("{% for a" + str(depth) + " in x %}" for depth in range(30)) + "{% endfor %}" * 30,
    ],
)
def test_what_could_explode_is_refused_when_it_is_read(source: str) -> None:
    """No calls, no text that doubles, no templates that call templates."""
    with pytest.raises(TemplateFault) as caught:
        Sandbox("UTC").read(source)
    assert caught.value.reason
    assert "\n" not in caught.value.reason


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'a' * 1000000000 }}",
        "{{ x * 1000000000 }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ x + x }}",
        "{{ " + " * ".join(["1000000000000"] * 6) + " }}",
        "{{ 1 // 0 }}",
        "{{ 1 / 0 }}",
        "{{ missing }}",
        "{{ x.missing }}",
        "{{ x[100] | upper }}",
        "{{ 1 | iso('Nowhere/None') }}",
        "{{ 99999999999999999999 | iso }}",
        "{{ 1.5 | fixed(4000) }}",
        "{{ x.__class__ }}",
        "{% for a in x %}" * 6 + "{% endfor %}" * 6,
        "{% for a in x %}{{ big }}{% endfor %}",
        "{% for a in x %}{% if big | json %}{% endif %}{% endfor %}",
    ],
)
def test_what_explodes_while_it_is_rendered_is_stopped(source: str) -> None:
    """In bounded time, with a reason in one line."""
    began = time.monotonic()
    with pytest.raises(TemplateFault) as caught:
        rendered(source, x=POINTS, big="x" * (MAX_OUTPUT // 50))
    assert caught.value.reason
    assert time.monotonic() - began < 30


def test_the_budget_of_a_block_is_shared_by_its_renderings() -> None:
    """A template that is just allowed once is not allowed ten thousand times."""
    template = Sandbox("UTC").read("{% for a in x %}{{ a.name }}{% endfor %}")
    budget = Budget(3000)
    template.render({"x": POINTS}, budget)
    with pytest.raises(TemplateFault, match="too many steps"):
        [template.render({"x": POINTS}, budget) for _ in range(100)]
    assert budget.units <= 0
    assert RENDER_BUDGET < BLOCK_BUDGET


def test_what_a_platform_needs_can_be_written() -> None:
    """Loops, conditions, arithmetic, and the filters."""
    source = (
        '{"t":"{{ at | iso }}","u":"{{ at | iso("UTC") }}",'
        '"v":{ {%- for p in points if p.value is not none -%}'
        "{{ p.name | json }}:{{ (p.value * 2) | fixed(1) }}{{ ',' if not loop.last }}"
        "{%- endfor -%} },"
        '"n":{{ points | length }},"first":{{ (points | first).value }},"ok":{{ true }},"none":{{ none }},'
        '"half":{{ (3 / 2) | exact }},"name":{{ gateway | upper | json }}}'
    )
    points = [{"name": "a", "value": Decimal("1.05")}, {"name": "b", "value": None}, {"name": 'c"', "value": 7}]
    assert rendered(source, at=1_767_225_600_123_456, points=points, gateway="trạm-1") == (
        '{"t":"2026-01-01T07:00:00.123+07:00","u":"2026-01-01T00:00:00.123+00:00",'
        '"v":{"a":2.1,"c\\"":14.0},'
        '"n":3,"first":1.05,"ok":true,"none":null,"half":1.5,"name":"TRẠM-1"}'
    )


def test_absent_values_pass_through_the_filters() -> None:
    """So that a Bad reading does not stop a template."""
    assert (
        rendered("{{ none | iso }} {{ none | fixed(1) }} {{ none | exact }} {{ none | json }}") == "null null null null"
    )
    assert rendered("{{ 'x' | fixed }} {{ 2 | fixed }} {{ 1.25 | fixed(1) }} {{ true | fixed }}") == "x 2.00 1.2 true"


def test_the_list_of_filters_is_the_whole_list() -> None:
    """What docs/formats.md shows is what there is."""
    known = set(Sandbox("UTC")._environment.filters) - {"_turns"}
    assert known == set(FILTERS)
