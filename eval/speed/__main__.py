from eval.speed.command import speed

if __name__ == "__main__":
    speed()
