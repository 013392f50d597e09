"""What all tests share."""

import os

from hypothesis import settings

# A run of the tests gives the same answer twice; `make soak` looks for new examples, and for longer.
# No deadline: a slow machine is not an error.
settings.register_profile("default", deadline=None, derandomize=True)
settings.register_profile("soak", deadline=None, max_examples=2000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
