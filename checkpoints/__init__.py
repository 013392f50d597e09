"""What is kept per actor name outside the actor: leases, checkpoints and inboxes."""

import _holdfast

_holdfast.check_siblings(__name__)  # another package of a sibling's name in the way is one clear ImportError
