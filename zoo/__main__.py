from zoo.config.own import leave_current_folder

leave_current_folder()  # before anything else is imported

from zoo.cli import main  # noqa: E402

main()
