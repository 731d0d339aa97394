"""The endpoints, one module for each family: its bodies, and its answers from what the rooms say."""
