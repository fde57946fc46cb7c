"""The shop's pages, and its public API's gateway when it runs on one machine."""
