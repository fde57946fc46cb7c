"""Runs the shop on one machine: its processes under one parent, their data, and the gateway that
stands where a cluster has its ingress.
"""
