"""The paper's system with the fusion network of Figure 4 in place of the released one."""

from systems.released import DyadicFusion

SYSTEM = DyadicFusion("paper")
