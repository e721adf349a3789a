"""Conversations as the model sees them: read, rendered by the chat template, encoded, and masked as inference needs."""
