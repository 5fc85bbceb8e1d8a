"""The paper's precipitation experiments: which trainings a table is made of, done and tabulated."""
