"""What others would run: small training scripts written after well-known recipes, without anything of this project."""
