"""Who is measured beside this project, and what contenders share."""
