"""Make MongoDB say what the PHP side's database says."""
