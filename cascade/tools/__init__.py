"""What programs use beside a model: each file is one tool, and none asks a model or the network unless it says so."""
