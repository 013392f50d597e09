from ._stage import Stage


class InboxConformance(Stage): ...
