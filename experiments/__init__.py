"""The tables of the paper and ours: plan, runs, intervals, tables, peers, costs, publishing."""
