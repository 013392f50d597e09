"""Actors under supervisors, on trio."""

import _holdfast

_holdfast.check_siblings(__name__)  # needs none, but by this its siblings know this file
