"""The Hugging Face Hub: its client, its repositories, and downloads."""
