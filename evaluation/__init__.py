"""What is done with a network on whole videos."""
