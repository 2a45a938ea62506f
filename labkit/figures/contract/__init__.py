"""Figures of the contract: fields of a Pod in CRI messages, the RPCs."""
