"""`posthouse apply` and `posthouse export`: what there shall be, written down in a YAML file."""
