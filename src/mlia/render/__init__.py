"""How reports are shown: text, JSON, HTML and the forms of other tools."""
