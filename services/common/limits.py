"""Limits that several services share: a caller knows what its callee accepts."""

from __future__ import annotations

MAX_LINES = 50
"""Of an order, and so of a cart and a reservation: its different products."""

MAX_PRODUCT_IDS = 200
"""How many products one call may ask for."""

MAX_PRODUCTS_PAGE = 60
"""The longest page of the catalogue."""

MAX_QUERY_LENGTH = 100
"""Of what somebody searches for."""

MAX_CURSOR_LENGTH = 512
"""Of what continues a list."""

MIN_PASSWORD_LENGTH = 10
MAX_PASSWORD_LENGTH = 200
MAX_CODE_LENGTH = 100
"""Of the code in a mailed link."""

MAX_EMAIL_LENGTH = 254  # RFC 5321 §4.5.3.1.3: a path has 256 octets, two of them its angle brackets
MAX_NAME_LENGTH = 100
MAX_STREET_LENGTH = 200
MAX_POSTAL_CODE_LENGTH = 20
MAX_CITY_LENGTH = 100
