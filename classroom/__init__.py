"""A class on one cluster: each student has a namespace, a kubeconfig file and a shop in the mesh.
``python -m classroom`` makes it, shows what everybody does, and takes it away.
"""
