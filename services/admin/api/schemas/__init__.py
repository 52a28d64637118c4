"""What the API answers, and what it takes, as the OpenAPI document shows it.

What it takes is checked by `shared` (`connection_editing.edit`, …), the one place with the rules;
the models here describe it.
"""
