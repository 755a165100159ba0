"""`python -m devcluster`."""

from devcluster.command import main

main()
