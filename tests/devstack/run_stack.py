"""`goalsvc dev` with substitutes for the API and the worker.

`python run_stack.py PORT DIRECTORY [broken] [talking] [quiet] [reload]`
"""

import sys
from pathlib import Path

from goalsvc.devstack import Commands, run_dev

if __name__ == "__main__":
    here = Path(__file__).parent
    broken = (sys.executable, "-c", "import sys; sys.exit('the worker was not made to work')")
    commands = Commands(
        api=lambda port: (sys.executable, str(here / "substitute_api.py"), str(port)),
        worker=broken if "broken" in sys.argv else (sys.executable, str(here / "substitute_worker.py")),
        source=Path(sys.argv[2]).parent / "source",
    )
    ended = run_dev(
        port=int(sys.argv[1]),
        data_dir=Path(sys.argv[2]),
        json_output="talking" not in sys.argv,
        quiet="quiet" in sys.argv,
        reload="reload" in sys.argv,
        commands=commands,
    )
    sys.exit(ended)
