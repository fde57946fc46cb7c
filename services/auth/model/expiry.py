"""How expired documents are found, to be deleted."""

from services.common.documents import Index

EXPIRED = Index("expired", order="expires_ms")
