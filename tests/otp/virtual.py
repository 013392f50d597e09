"""Virtual time for all tests of a module: `pytestmark = virtual_time`. (What it does is in conftest.py.)"""

import pytest

virtual_time = pytest.mark.trio(virtual_time=True)
