"""A small world of true facts in Korean, and the rows made from it for every stage of post-training."""
