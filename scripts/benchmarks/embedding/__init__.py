"""Parts of scripts/bench embedding."""
