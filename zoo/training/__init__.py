"""What training takes beside the Trainer."""
