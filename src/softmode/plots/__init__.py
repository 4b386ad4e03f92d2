"""What figures share: axes, lines, fields, marks and how they are saved."""
