"""The programs: tinyc, tinyc-opt, tinyc-check, tinyc-bench and tinyc-plan, and what they share."""
