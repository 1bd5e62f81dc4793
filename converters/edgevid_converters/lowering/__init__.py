"""From a model in a portable form to artifacts: one package or module per format."""
