"""What the exams that are written in Go share: files of a reply, builds, outcomes, logs."""
