"""The figures of reports once more, from their definitions: NumPy alone, and nothing of facedecode.

Written from ISO/IEC 19795-1, LFW's README, Gomez-Barrero et al. 2018, Wang et al. 2004 and docs/evaluation.md, plainly
and without regard to speed. `tests/test_oracles.py` compares the package with it on small stores, `headlines.py` the
published figures on all of LFW.
"""
