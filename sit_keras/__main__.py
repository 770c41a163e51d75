"""`python -m sit_keras` is the program `sit-keras`."""

from sit_keras.cli.main import main

if __name__ == "__main__":
    main()
