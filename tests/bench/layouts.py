"""Which ranks are in which group, for a model that is spread over many."""

from dataclasses import dataclass

import numpy as np

# In the order of a rank's number, the fastest first, is how Megatron numbers them.
KINDS = ("tp", "ep", "dp", "pp", "stage", "all")


@dataclass(frozen=True)
class Layout:
    """Sizes of the groups of a model: tensor, expert, data and pipeline parallel.

    Ranks are numbered as Megatron does by default, tensor parallel fastest, then data, then pipeline:
    rank = (pipeline * dp + data) * tp + tensor. vLLM has data parallel outside of pipeline, which is the same
    where one of them is 1. An expert group is `ep` consecutive ranks of a stage, each with whole experts
    (vLLM's is the whole stage: ep = tp * dp).

    Attributes
    ----------
    tp, ep, dp, pp : int
    together : str
        The groups that load together: those of "tp", "ep", "dp" or "pp"; "stage": the ranks of one pipeline stage,
        which want the same layers; "all": every rank.

    Raises
    ------
    ValueError
        `ep` does not divide a stage.
    """

    tp: int
    ep: int
    dp: int
    pp: int
    together: str = "stage"

    def __post_init__(self):
        if self.tp * self.dp % self.ep:
            raise ValueError(f"expert groups of {self.ep} do not divide a stage of {self.tp * self.dp} ranks")

    @property
    def ranks(self):
        return self.tp * self.dp * self.pp

    def groups(self):
        """Lists of ranks, one for each group that loads together; every rank is in one of them."""
        grid = np.arange(self.ranks).reshape(self.pp, self.dp, self.tp)
        return {
            "tp": grid.reshape(-1, self.tp),
            "ep": grid.reshape(-1, self.ep),
            "dp": grid.swapaxes(1, 2).reshape(-1, self.dp),
            "pp": grid.reshape(self.pp, -1).T,
            "stage": grid.reshape(self.pp, -1),
            "all": grid.reshape(1, -1),
        }[self.together].tolist()

    @property
    def name(self):
        """Its sizes above 1, and what loads together where that is no stage."""
        sizes = [f"{kind}{size}" for kind in KINDS[:4] if (size := getattr(self, kind)) > 1]
        return "-".join((sizes or ["tp1"]) + ([] if self.together == "stage" else ["by", self.together]))

    def __str__(self):
        return " and ".join("+".join(map(str, ranks)) for ranks in self.groups())
