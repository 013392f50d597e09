"""Actors under supervisors, on trio."""

import _holdfast

_holdfast.check_siblings(__name__)  # needs no sibling; the line is the mark by which the siblings know this file
