"""Runs the shop's processes on this machine: one service, or all of them under one parent."""
