"""One job: serve a model, stream an answer, measure it, run what it wrote, grade it."""
