"""What the study shows and how: notebooks to read, and scripts that make the figures."""
