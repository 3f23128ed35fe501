"""The samples beside the drivers are what the READMEs say: they load and make a driver."""

from importlib.metadata import entry_points
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from config.judge import judged

ROOT = Path(__file__).parents[2] / "drivers"


class Textual(YAML):
    """Reads numbers that are not whole as their text, as the product's own reader does."""

    def __init__(self):
        super().__init__(typ="safe", pure=True)
        self.constructor.add_constructor("tag:yaml.org,2002:float", lambda _, node: node.value)


@pytest.mark.parametrize("name", ["modbus", "opcua", "simulated"])
def test_a_sample_loads_and_makes_a_driver(name, clock):
    """Every link of the sample, through the driver that its entry point names."""
    links = Textual().load((ROOT / name / "sample.yaml").read_text(encoding="utf-8"))["links"]
    made = entry_points(group="trambien.drivers")[name].load()
    for link_name, link in links.items():
        driver = made(link_name, judged(made.Settings, link), clock)
        assert driver.groups
        assert all(group.layout.link == link_name for group in driver.groups)


@pytest.mark.parametrize("name", ["modbus", "opcua", "simulated"])
def test_a_readme_stands_beside_each_sample(name):
    """A driver without a page cannot be commissioned."""
    assert (ROOT / name / "README.md").stat().st_size > 1000
